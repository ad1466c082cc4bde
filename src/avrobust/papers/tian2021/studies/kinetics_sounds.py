"""Tables 1 and 3 of Tian & Xu 2021 on Kinetics-Sounds, and all else: 27 classes, 9309 / 3103 / 3104 clips of 10 s.

    avrobust study tian2021_kinetics_sounds --data /media/Kinetics
Paper, Table 1: clean 72.42, audio-only 35.99, visual-only 66.08 | A, V at 0.012, AV at 0.006 of each:
FGSM 33.38, 15.08, 8.18 | PGD 6.22, 1.90, 0.77 | MIM 3.87, 1.55, 0.32.
Table 3, FGSM at 0.006, clean | A, V, AV: none 72.42 | 36.40, 26.35, 8.09; MinSim+ExFMem 71.33 | 55.96, 30.57, 24.90.
Ours: not measured; the videos are not free to pass on.
`--data` may hold all of Kinetics-400: the 27 classes of the paper are kept, or those that `--classes` names.  With
`--lists DIR`, the csv files of the authors' code, the splits are theirs.  Prepared clips take 15 MB each, 232 GB in all;
with `--clip.fps 2` it is 63 GB, and audio and video are up to 1/4 s apart.
"""

from avrobust.data.source import Source
from avrobust.papers.tian2021.studies import videos

study = videos.on(
    "tian2021_kinetics_sounds",
    "Does integration strengthen robustness? Tian & Xu 2021 on Kinetics-Sounds",
    Source(dataset="kinetics_sounds", classes="ks27"),
    seconds=10.0,
)
