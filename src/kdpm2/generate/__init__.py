"""Pictures for a table of rows: for hours or days, on one machine or a cluster, with none lost and none made twice.

A row says what varies: a prompt or label, a seed, steps, eta, any option of the sampler. Rows are cut into parts. A
worker draws a part and writes it as a file, whole or not at all. What is missing on the disk is what is still to be
made, so that any run goes on after any crash.

| module | idea |
| --- | --- |
| `rows`, `cells`, `wanted` | rows are read, and what each asks for |
| `plan`, `done` | what is to be made, and what of it is |
| `model`, `drawing`, `batched`, `grouped` | rows become pictures |
| `files`, `parts` | pictures become files |
| `worker`, `local`, `on_ray` | who does it, and where |
| `run`, `progress`, `report` | the whole, and what it says |
"""

from kdpm2.generate.on_ray import Cluster
from kdpm2.generate.report import Forecast, Report
from kdpm2.generate.run import forecast, generate

__all__ = ["Cluster", "Forecast", "Report", "forecast", "generate"]
