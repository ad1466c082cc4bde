"""Tian & Xu, "Can audio-visual integration strengthen robustness under multimodal attacks?", CVPR 2021.

What only this paper and its code (YapengTian/AV-Robustness-CVPR21) say: attacks, weights, split lists, budgets, studies, claims, printed numbers.
"""
