"""What a family puts around a prompt: its chat template, filled in, with its system prompt."""

from types import SimpleNamespace

from jinja2 import TemplateError


def conversation(processor, family, *, name: str = "the model") -> str:
    """The text of a turn with a picture, `{prompt}` where a task's prompt stands.

    Raises `ValueError` for a chat template that cannot be filled in, or none.
    """
    token = processor.image_token
    vlm = SimpleNamespace(
        processor=processor, family=family, name=name, placeholder=getattr(token, "content", token)
    )
    return around(vlm, SimpleNamespace(image=True, prompt="{prompt}"))


def around(vlm, sample):
    """The family's conversation around a prompt: the chat template, or the family's own format.

    Raises `ValueError` for a chat template that cannot be filled in, or none.
    """
    tokenizer, family = vlm.processor.tokenizer, vlm.family
    if vlm.processor.chat_template or tokenizer.chat_template:
        return _rendered(vlm, sample)
    if family.prompt:
        form = family.bare if sample.image is None else family.prompt
        return form.format(image=vlm.placeholder, bos=tokenizer.bos_token, prompt=sample.prompt)
    raise ValueError(
        f"asked for a prompt, found no chat template in the folder of {vlm.name}; "
        "add chat_template.jinja to it"
    )


def _rendered(vlm, sample):
    """The chat template's text; with the family's system prompt where the turns are that family's.

    A checkpoint with another language model has other turns, and a template may say it by itself.
    """
    picture = [] if sample.image is None else [{"type": "image"}]
    user = {"role": "user", "content": [*picture, {"type": "text", "text": sample.prompt}]}
    told, processor = vlm.family.system or "", vlm.processor
    template = processor.chat_template or processor.tokenizer.chat_template
    system = {"role": "system", "content": [{"type": "text", "text": told}]}

    def render(messages):
        try:
            return processor.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True
            )
        except TemplateError as error:
            raise ValueError(
                f"asked for a prompt, found a chat template of {vlm.name} that cannot be filled in "
                f"({error}); repair chat_template.jinja in its folder"
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
