"""What kdpm2 costs, beside diffusers and k-diffusion: `make bench` measures it on this machine; `gpu.sh` on a GPU.

`timing` has the clock; `schedulers`, `pairs`, `loops`, `imports`, `memory`, `advance` and `batching` have a kind of
case each; `load` and `serving` are the requests and the server of the last; `cases` lists them all; `report` and `plot`
show what came out.
"""
