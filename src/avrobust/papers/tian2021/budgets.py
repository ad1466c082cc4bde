"""The budgets of the paper's tables, and larger ones for pictures."""

from avrobust.study.budgets import together
from avrobust.threat import Threat

# Table 1: single-modality attacks at 0.012, joint ones at half of it each.
TABLE1 = (Threat.tian2021(0.012, 0.0), Threat.tian2021(0.0, 0.012), Threat.tian2021(0.006, 0.006))
# Small networks trained from scratch hardly notice the paper's budget for pictures: four times as much of those.
TABLE1_X4 = (Threat.tian2021(0.012, 0.0), Threat.tian2021(0.0, 0.048), Threat.tian2021(0.006, 0.024))

# Tables 2 and 3: 0.006 everywhere.
TABLE3 = together(0.006, 0.006)
TABLE3_X4 = together(0.006, 0.024)
