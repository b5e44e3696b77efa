"""`VLM`, a vision-language model as the instruments see it: to prepare, run and ask."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from irlib.inputs import preparing
from irlib.inputs.features import Features, look
from irlib.inputs.reader import Reader
from irlib.inputs.records import Answer, Inputs
from irlib.inputs.tokens import check_length
from irlib.models.finite import check_finite, check_inputs, finite_scores
from irlib.models.rounding import margins
from irlib.models.sites import last_norm, sites_of


@dataclass(frozen=True, eq=False)
class VLM:
    """A model as the instruments see it: a plain record, made by `load`.

    `base` is the folder or hub id of the weights that an adapter was put into, None without one.
    """

    name: str
    model: nn.Module
    processor: object
    family: object
    base: str | None = None

    def __repr__(self) -> str:
        few = self.quantization or str(self.dtype).removeprefix("torch.")
        made = f", adapter on {self.base}" if self.base else ""
        return (
            f"VLM({self.name}, {self.family.title}{made}, {self.n_layers} layers, {few} on "
            f"{self.device})"
        )

    @property
    def decoder(self) -> nn.Module:
        """The language model."""
        return self.model.get_decoder()

    @property
    def n_layers(self) -> int:
        """Number of decoder layers; also the truncation layer that stands for the whole model."""
        return len(self.decoder.layers)

    @property
    def device(self) -> torch.device:
        """Where the token ids belong: the device of the embeddings, wherever the layers are.

        Weights that wait on the CPU or the disk have no device; their hook knows where they run.
        """
        table = self.model.get_input_embeddings()
        place = getattr(getattr(table, "_hf_hook", None), "execution_device", None)
        return table.weight.device if place is None else torch.device(place)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype it computes in: that of its weights, where they are not packed."""
        return self.decoder.dtype

    @property
    def quantization(self) -> str | None:
        """How its weights are packed: "4bit", "8bit" or another method's name; None if not."""
        if (packed := getattr(self.model.config, "quantization_config", None)) is None:
            return None
        sizes = [size for size in ("4bit", "8bit") if getattr(packed, f"load_in_{size}", False)]
        return sizes[0] if sizes else str(packed.quant_method)

    @property
    def image_token_id(self) -> int:
        """The token id that stands for one image feature in `input_ids`."""
        return self.model.config.image_token_id

    def image_tokens(self, text: dict[str, Tensor]) -> Tensor:
        """Mask `[row, position]` of the tokens of all pictures in `Inputs.text`."""
        return (text["input_ids"] == self.image_token_id) & text["attention_mask"].bool()

    @property
    def plain(self) -> bool:
        """Whether its generation is greedy and nothing more: settings say only where it ends."""
        told = self.model.generation_config.to_diff_dict()
        ends = {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"}
        return not any(value for key, value in told.items() if key not in ends and key[0] != "_")

    @property
    def placeholder(self) -> str:
        """The text that stands for the picture in a prompt."""
        return self.reader.placeholder

    @cached_property
    def reader(self) -> Reader:
        """Whose words and pictures its inputs are."""
        return Reader(self.name, self.processor, self.family)

    @cached_property
    def sites(self) -> dict[str, str]:
        """The sites of figure 7 that its layers have: `{site: the module's name in a layer}`."""
        return sites_of(self.decoder)

    @cached_property
    def last_norm(self) -> nn.Module:
        """The norm between the last layer and the logits."""
        return self.decoder.get_submodule(last_norm(self.decoder))

    def site(self, name: str) -> dict[int, nn.Module]:
        """`{layer: module}` for a site of figure 7; raises `ValueError` for any other."""
        if name not in self.sites:
            raise ValueError(
                f"asked for the site {name!r}, found no such site in the layers of {self.name} "
                f"({type(self.decoder.layers[0]).__name__}); use one of {list(self.sites)}"
            )
        layers = self.decoder.layers
        return {i: layer.get_submodule(self.sites[name]) for i, layer in enumerate(layers)}

    def prepare(self, sample=None, question: str | None = None, *, image=None) -> Inputs:
        """The `Inputs` of a sample, a list of samples, or a picture (path, PIL, array, bytes) and
        a question, `vlm.prepare("photo.jpg", "What is this?")`; of a list of pictures and a
        question where the family takes several.

        >>> from irlib import load
        >>> load("mini-llava").prepare(question="What is a cat?").spans.image.any().item()
        False
        """
        return preparing.prepare(self, sample, question, image=image)

    @torch.no_grad()
    def encode(self, inputs: Inputs) -> Inputs:
        """The same inputs, their pictures through the vision tower: rows taken cost no more of it.

        >>> from irlib import load
        >>> vlm = load("mini-llava")
        >>> list(vlm.encode(vlm.prepare(question="What is a cat?")).batch)
        ['input_ids', 'attention_mask']
        """
        check_inputs(self, inputs)
        pictures = [visual for visual in inputs.visual if visual and "pixel_values" in visual]
        if not pictures:
            return inputs
        seen = look(self.model, inputs.batch)
        sizes = self.image_tokens(inputs.text).sum(1).tolist()
        features = iter(Features.divide(seen, [size for size in sizes if size]))
        visual = tuple(
            {key: value for key, value in one.items() if key != "pixel_values"}
            | {"features": next(features)}
            if one
            else None
            for one in inputs.visual
        )
        return replace(inputs, visual=visual)

    def forward(self, inputs: Inputs, **kwargs) -> Tensor:
        """Logits `[row, position, token]` of one forward; `logits_to_keep=k` gives the last k.

        They are on the device of the inputs, wherever the last layer is. Raises `ValueError` for
        inputs of another model, and where pixels or logits are not finite numbers.
        """
        check_inputs(self, inputs)
        model, batch = self.family.call(self.model, inputs.batch)
        logits = model(**batch, use_cache=False, **kwargs).logits.to(self.device)
        check_finite("logits", logits)
        return logits

    @torch.no_grad()
    def answer(self, inputs: Inputs, *, max_new_tokens: int | None = None) -> Answer:
        """The greedy `Answer` of each row, at most `max_new_tokens` long (the sample's, if None).

        Raises `ValueError` for inputs of another model, a length below 1, pixels or logits that are
        not finite numbers, and more tokens than the model has positions.

        >>> from irlib import load
        >>> vlm = load("mini-llava")
        >>> len(vlm.answer(vlm.prepare(question="What is a cat?"), max_new_tokens=2).texts)
        1
        """
        check_inputs(self, inputs)
        limits = inputs.limits(max_new_tokens)
        settings = copy.deepcopy(self.model.generation_config)
        settings.update(max_new_tokens=max(limits), suppress_tokens=[self.image_token_id])
        model, batch = self.family.call(self.model, inputs.batch)
        first = []

        def watch(ids, scores):
            first.extend([] if first else margins(scores, self.dtype))
            return scores

        made = model.generate(
            **{"input_ids": inputs.text["input_ids"]} | batch,
            generation_config=settings,
            logits_processor=[finite_scores, watch],
        )[:, inputs.length :].cpu()
        check_length(self, inputs.length + made.shape[1], "a prompt and its answer")
        return replace(self.read(made, limits), margins=tuple(first))

    def read(self, made: Tensor, limits: Sequence[int]) -> Answer:
        """The `Answer` in generated ids `[row, token]`: up to the first end or the row's limit.

        >>> from irlib import load
        >>> vlm = load("mini-llava")
        >>> [len(ids) for ids in vlm.read(torch.tensor([[9, 9, 9], [9, 2, 9]]), [2, 3]).ids]
        [2, 1]
        """
        tokenizer = self.processor.tokenizer
        special, end = torch.tensor(tokenizer.all_special_ids), self.end_ids
        ids = []
        for row, limit in zip(made, limits, strict=True):
            stop = torch.isin(row, end).nonzero()[:1].flatten().tolist() or [len(row)]
            row = row[: min(limit, *stop)]
            ids.append(row[~torch.isin(row, special)])
        texts = [tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]
        return Answer(tuple(ids), tuple(texts), reader=self.reader)

    @property
    def end_ids(self) -> Tensor:
        """The token ids that end an answer."""
        end = self.model.generation_config.eos_token_id
        return torch.tensor(end if isinstance(end, list) else [] if end is None else [end])
