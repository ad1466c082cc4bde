"""The interactive page, `avrobust demo`: one model, one clip, one attack, seen and heard.

`page` lays it out in Gradio; all other modules work, and are tested, without it.
"""
