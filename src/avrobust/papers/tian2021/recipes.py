"""How the code of Tian & Xu 2021 trains: ResNet-18 from ImageNet weights, SGD, all numbers from its scripts.

avrobust train --recipe published --data clips/ --out models/music
"""

from dataclasses import replace

from avrobust.training.recipe import Recipe
from avrobust.types import AV

# MIT-MUSIC, on 3 GPUs of 12 clips each.  Training a finished network again, with a memory, has the same settings.
PUBLISHED = Recipe(
    name="published",
    optimizer="sgd",
    lr=AV(audio=1e-3, visual=1e-4),
    lr_head=1e-3,
    weight_decay=1e-4,
    schedule="steps",
    drops=(30, 60, 90),
    epochs=100,
    batch=36,
    precision="float32",
)
# Kinetics-Sounds and AVE, on 4 GPUs of 12 clips each.
PUBLISHED_30 = replace(PUBLISHED, name="published-30", drops=(10, 20), epochs=30, batch=48)
# Training a finished network again: on 4 GPUs of 8 clips each, audio at the rate of video; and on 2 GPUs of 8.
PUBLISHED_30_KINETICS = replace(
    PUBLISHED_30, name="published-30-kinetics", lr=AV(audio=1e-4, visual=1e-4), lr_head=1e-4, batch=32
)
PUBLISHED_30_AVE = replace(PUBLISHED_30, name="published-30-ave", batch=16)

RECIPES = {recipe.name: recipe for recipe in (PUBLISHED, PUBLISHED_30, PUBLISHED_30_KINETICS, PUBLISHED_30_AVE)}
