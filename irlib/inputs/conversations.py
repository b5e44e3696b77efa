"""What a family puts around a prompt: its chat template, filled in, with its system prompt."""

from types import SimpleNamespace

MARK = "{prompt}"  # stands where a question will


def conversation(processor, family, *, name: str = "the model") -> str:
    """The text of a turn with a picture, `{prompt}` where a task's prompt stands.

    Raises `ValueError` for a chat template that cannot be filled in, or none.
    """
    token = processor.image_token
    vlm = SimpleNamespace(
        processor=processor, family=family, name=name, placeholder=getattr(token, "content", token)
    )
    return around(vlm, SimpleNamespace(images=(True,), prompt=MARK))


def around(vlm, sample):
    """The family's conversation around a prompt: the chat template, or the family's own format.

    Raises `ValueError` for a chat template that cannot be filled in, or none.
    """
    tokenizer, family = vlm.processor.tokenizer, vlm.family
    if vlm.processor.chat_template or tokenizer.chat_template:
        return _rendered(vlm, sample)
    if family.prompt:
        form = family.prompt if sample.images else family.bare
        return form.format(
            image=vlm.placeholder * len(sample.images),
            bos=tokenizer.bos_token,
            prompt=sample.prompt,
        )
    raise ValueError(
        f"asked for a prompt, found no chat template in the folder of {vlm.name}; "
        "add chat_template.jinja to it"
    )


def question_at(vlm, sample, text: str) -> int:
    """Where in the conversation's `text` the question begins, and no other place with its words."""
    frame = around(vlm, SimpleNamespace(images=sample.images, prompt=MARK))
    start, question = frame.index(MARK), sample.prompt.strip()  # templates may strip it
    while start < len(text) and text[start].isspace():
        start += 1
    return start if text.startswith(question, start) else text.rindex(question)


def _template(vlm) -> str | None:
    """The chat template of processor or tokenizer; of several the one named "default"."""
    template = vlm.processor.chat_template or vlm.processor.tokenizer.chat_template
    if isinstance(template, list):  # as processor_config.json may have them
        template = {one["name"]: one["template"] for one in template}
    if not isinstance(template, dict):
        return template
    if "default" not in template:
        raise ValueError(
            f"asked for a prompt, found the chat templates {sorted(template)} in the folder of "
            f"{vlm.name} and none named 'default'; give that name to the one for pictures and "
            "questions"
        )
    return template["default"]


def _rendered(vlm, sample):
    """The chat template's text; with the family's system prompt where the turns are that family's.

    A checkpoint with another language model has other turns, and a template may say it by itself.
    """
    pictures = [{"type": "image"} for _ in sample.images]
    user = {"role": "user", "content": [*pictures, {"type": "text", "text": sample.prompt}]}
    told, processor = vlm.family.system or "", vlm.processor
    template = _template(vlm)
    system = {"role": "system", "content": [{"type": "text", "text": told}]}

    def render(messages):
        try:
            return processor.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program, and fails as any does
            raise ValueError(
                f"asked for a prompt, found a chat template of {vlm.name} that cannot be filled in "
                f"({type(error).__name__}: {error}); repair chat_template.jinja in its folder"
            ) from error

    text = render([user])
    if sample.prompt.strip() not in text or "{'type':" in text.replace(sample.prompt, ""):
        raise ValueError(
            f"asked for a prompt around {sample.prompt!r}, found {text!r}: the chat template of "
            f"{vlm.name} does not put the question in as it is; repair chat_template.jinja in its "
            "folder: content is a list of parts"
        )
    own_turns = bool(told) and text.rstrip().endswith(vlm.family.turn)
    return render([system, user]) if own_turns and told not in text else text
