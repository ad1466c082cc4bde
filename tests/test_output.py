"""What a model returns, as an `Output`: what is understood, and what is refused with the line to write."""

from collections import namedtuple

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.models.clap.modeling_clap import ClapOutput
from transformers.models.clip.modeling_clip import CLIPOutput
from transformers.models.pe_audio_video.modeling_pe_audio_video import PeAudioVideoOutput

from avrobust import AV, Output
from avrobust.engine import as_output
from avrobust.types import InputError

LOGITS, FEATURE, MAP = torch.rand(2, 3), torch.rand(2, 5), torch.rand(2, 1, 4, 4)
PAIR = AV(audio=FEATURE, visual=FEATURE + 1)

UNDERSTOOD = {
    "tensor": LOGITS,
    "Output": Output(LOGITS),
    "ModelOutput": ImageClassifierOutput(loss=torch.tensor(1.0), logits=LOGITS, hidden_states=(FEATURE,)),
    "dict": {"loss": None, "logits": LOGITS},
    "tuple": (LOGITS, FEATURE),
    "list": [LOGITS],
    "named tuple": namedtuple("Answer", "features logits")(FEATURE, LOGITS),
    "what a ModelOutput is as a tuple": ImageClassifierOutput(logits=LOGITS).to_tuple(),
}


@pytest.mark.parametrize("what", UNDERSTOOD)
def test_logits_are_found(what):
    assert as_output(UNDERSTOOD[what]).logits is LOGITS


@pytest.mark.parametrize("features", [PAIR, tuple(PAIR), {"audio": PAIR.audio, "visual": PAIR.visual}], ids=type)
def test_features_and_heat_are_found(features):
    out = as_output({"logits": LOGITS, "features": features, "heat": MAP})
    assert out.features.audio is PAIR.audio and out.features.visual is PAIR.visual and out.heat is MAP


REFUSED = {
    "CLIP": (CLIPOutput(logits_per_image=LOGITS, logits_per_text=LOGITS.T), r"lambda x: net\(x\).logits_per_image. .* zero_shot"),
    "CLAP": (ClapOutput(logits_per_audio=LOGITS, audio_embeds=FEATURE), r"lambda x: net\(x\).logits_per_audio. .* zero_shot"),
    "PE-AV": (PeAudioVideoOutput(logits_audio_video=LOGITS, audio_embeds=FEATURE), r"lambda x: net\(x\).logits_audio_video. .* pe_av"),
    "dict of similarities": ({"logits_per_video": LOGITS}, r"lambda x: net\(x\)\['logits_per_video'\]"),
    "encoder": (BaseModelOutputWithPooling(last_hidden_state=MAP, pooler_output=FEATURE), r"classifies nothing: avr.models.pair .* lambda x: net\(x\).pooler_output"),
    "embeddings": (PeAudioVideoOutput(audio_video_embeds=FEATURE, audio_embeds=FEATURE), r"lambda x: net\(x\).audio_video_embeds"),
    "loss first": ((torch.tensor(1.0), LOGITS), r"tuple of Tensor, Tensor, the first a single number. .* lambda x: net\(x\)\[1\]"),
    "features first": ((FEATURE, LOGITS), r"\[5, 3\] columns.* lambda x: net\(x\)\[1\]"),
    "nothing": (None, "got NoneType. Take them out"),
    "text": ("dog", "got str 'dog'. Take them out"),
    "other names": ({"scores": LOGITS}, r"got dict with scores. Take them out .*\['scores'\]"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_be_meant_otherwise_is_refused(what):
    answer, message = REFUSED[what]
    with pytest.raises(InputError, match=f"the model should return .*{message}"):
        as_output(answer)
