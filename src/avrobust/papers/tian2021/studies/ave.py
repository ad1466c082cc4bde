"""The experiments of Tian & Xu 2021 on AVE, for which their code has lists: 28 classes, clips of 10 s.

    avrobust study tian2021_ave --data /media/AVE
Paper: no numbers on AVE.  Ours: not measured; the videos are not free to pass on.
With `--lists DIR`, the csv files of the authors' code, the splits are theirs, without the clips that stand in them
twice: a clip of both train and test is tested only, which leaves 3294 / 401 / 402 of 3339 / 402 / 402 rows.  Prepared
clips take 15 MB each, 61 GB in all; with `--clip.fps 2` it is 17 GB, and audio and video are up to 1/4 s apart.
"""

from avrobust.data.source import Source
from avrobust.papers.tian2021.studies import videos

study = videos.on(
    "tian2021_ave",
    "Does integration strengthen robustness? Tian & Xu 2021 on AVE",
    Source(dataset="ave"),
    seconds=10.0,
)
