"""Media to labelled clips: knows datasets, knows no models.

Nothing is imported here: processes that decode clips import `data.prepare` alone, which needs no torch.
"""
