"""Every table and figure of Tian & Xu 2021 on MIT-MUSIC: 11 instruments, 312 / 104 / 104 solos.

    avrobust study tian2021_music --data /media/MUSIC
Paper, Table 1: clean 88.46, audio-only 59.62, visual-only 81.73 | A, V at 0.012, AV at 0.006 of each:
FGSM 50.00, 25.00, 15.38 | PGD 13.46, 1.92, 0.00 | MIM 6.73, 1.92, 0.00.
Table 3, FGSM at 0.006, clean | A, V, AV: none 88.46 | 51.92, 45.19, 15.38; MinSim+ExFMem 90.38 | 73.08, 53.85, 42.31.
Ours: not measured; the videos are not free to pass on.
With `--lists DIR`, the csv files of the authors' code, the splits are theirs; with `--names MUSIC_solo_videos.json` the
clips are those of the dataset's list, divided 60 : 20 : 20; without either, all videos of the folder.  Prepared clips
take 27 MB each, 14 GB in all.  Image weights are fetched once from the model hub.
"""

from avrobust.data.source import Source
from avrobust.papers.tian2021.studies import videos

# The shortest listed video has 150 frames at 8 a second: no clip of 18 s is filled up by repeating it.
SECONDS = 18.0

study = videos.on(
    "tian2021_music",
    "Does integration strengthen robustness? Tian & Xu 2021 on MIT-MUSIC",
    Source(dataset="music", middle=SECONDS),
    seconds=SECONDS,
)
