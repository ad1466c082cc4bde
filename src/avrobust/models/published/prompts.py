"""Models that were trained with text: loaded with their processors, and classes as the embeddings of prompts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from avrobust.models.configurations import PreTrainedModel, transformers, with_weights
from avrobust.models.visual import fetch

TextSource: TypeAlias = str | Path | PreTrainedModel
Prompts: TypeAlias = str | Sequence[str]
SAME = 1e-5  # embeddings nearer than this share of their length differ by rounding alone


def with_processor(source: TextSource, processor: Any) -> tuple[PreTrainedModel, Any]:
    """A model, in evaluation mode, and its processor, which has a front end's numbers and a `tokenizer`.

    Of a name on the model hub or a folder, both are there.  Raises `OSError`, saying what to do, where they cannot be had.
    """
    if isinstance(source, str | Path):

        def load(name: str, **where: bool) -> tuple[PreTrainedModel, Any]:
            model = with_weights(name, **where)
            return model, processor or transformers().AutoProcessor.from_pretrained(
                name, trust_remote_code=False, **where
            )

        source, processor = fetch(str(source), load, "instead of the name.")
    if not hasattr(processor, "tokenizer"):
        raise ValueError(
            f"expected a processor with a tokenizer beside the {type(source).__name__}, got {type(processor).__name__}. "
            "Give the one that the model was trained with: AutoProcessor.from_pretrained(name)."
        )
    return source.eval(), processor


@torch.no_grad()
def text_embeddings(
    embed: Callable[..., Tensor], tokenizer: Any, classes: Sequence[str], prompts: Prompts
) -> Float[Tensor, "k d"]:
    """One embedding per class: `embed` of each prompt with the class's name in place of {}, averaged over the prompts.

    Raises `ValueError` for fewer than two classes, a class that is named twice, a prompt without {}, and classes whose
    embeddings are the same.
    """
    if isinstance(classes, str) or len(set(classes)) < max(2, len(classes)):
        raise ValueError(
            f"expected the names of two classes or more, each once, got {classes!r}. Give them in the order of the labels."
        )
    templates = [prompts] if isinstance(prompts, str) else list(prompts)
    if not templates or not all("{}" in template for template in templates):
        raise ValueError(
            f"expected prompts with {{}} where the name of the class belongs, got {prompts!r}. Write 'a photo of {{}}'."
        )
    each = []
    for template in templates:
        texts = [template.replace("{}", name) for name in classes]
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        each.append(embed(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]))
    found = torch.stack(each).mean(0)
    apart = torch.cdist(found, found, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    if apart.min() < SAME * found.norm(dim=1).mean():
        i, j = divmod(int(apart.argmin()), len(classes))
        raise ValueError(
            f"expected another embedding for each class, got the same for {classes[i]!r} and {classes[j]!r}. Give the "
            "tokenizer that the model was trained with, and names that it knows."
        )
    return found
