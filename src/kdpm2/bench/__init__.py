"""What kdpm2 costs, beside diffusers and k-diffusion: `kdpm2 bench` measures it on the machine that it runs on.

`timing` has the clock; `schedulers`, `pairs`, `loops`, `imports`, `memory`, `advance` and `batching` have a kind of
case each; `load` and `serving` are the requests and the server of the last; `cases` lists them all; `report` and `plot`
show what came out.
"""
