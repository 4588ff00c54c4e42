"""The networks, written once, in torch; graphs are generated from them by `samlet.export`.

Only `export`, `train` and `backends/torch.py` may import this room: running a model needs no torch.
"""
