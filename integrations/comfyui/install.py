"""Installs kdpm2 for the Python that runs this, without its dependencies; ComfyUI-Manager runs it by itself.

What the pack needs beside kdpm2, ComfyUI requires too. With kdpm2's dependencies pip would bring diffusers, and with it
a huggingface_hub that is too new for transformers 4: ComfyUI would no longer start where that is installed.
"""

import subprocess
import sys

KDPM2 = "kdpm2>=0.2,<0.3"

if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", KDPM2], check=True)
