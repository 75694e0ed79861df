"""Run by SD.Next when it starts: installs kdpm2, and leaves all that SD.Next has installed as it is."""

import launch

if not launch.is_installed("kdpm2"):
    # What the sampler needs beside kdpm2 is there; with its dependencies, pip might bring another torch.
    launch.run_pip("install --no-deps kdpm2", "kdpm2")
