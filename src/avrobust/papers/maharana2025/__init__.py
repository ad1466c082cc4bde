"""Maharana et al., "AVRobustBench: benchmarking the robustness of audio-visual recognition models at test-time", NeurIPS 2025.

What only this paper says: claims, and the study that tests them.  Its corruptions are in `avrobust.corruptions`.
"""
