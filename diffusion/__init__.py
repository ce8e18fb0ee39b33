"""Diffusion models and flow matching as pure functions. They know neither networks nor training.

A sampler is built from four choices, each independent of the others:

    schedule = cosine()                                            # the level of noise at time t
    denoise  = denoiser(predict, "v", schedule)                    # turns what the network predicts into x_0
    sampler  = ddim(denoise, schedule)                             # a step from one time to an earlier one
    images   = sample(sampler, noise, uniform_times(20))           # all steps as one scan

A network is trained with `target`, `diffuse` and a weighting, and judged by `variational_bound`.
"""

from .bound import Bound, Profile, bound_times, profile, tightest, variational_bound
from .guidance import guide, guided
from .prediction import PREDICTIONS, Denoiser, check_shape, convert, denoiser, from_published, split, target
from .samplers import (
    Sampler,
    ancestral,
    ddim,
    dpm_solver_2m,
    euler,
    heun,
    probability_flow,
    sample,
    times_of_log_snr,
    trajectory,
    uniform_log_snr_times,
    uniform_times,
)
from .schedules import (
    Level,
    NoiseSchedule,
    cosine,
    cosine_betas,
    diffuse,
    from_betas,
    linear,
    linear_betas,
    per_example,
    posterior,
    rectified_flow,
    variance_preserving,
)
from .weighting import Weighting, min_snr, simple, snr

__all__ = [
    "PREDICTIONS",
    "Bound",
    "Denoiser",
    "Level",
    "NoiseSchedule",
    "Profile",
    "Sampler",
    "Weighting",
    "ancestral",
    "bound_times",
    "check_shape",
    "convert",
    "cosine",
    "cosine_betas",
    "ddim",
    "denoiser",
    "diffuse",
    "dpm_solver_2m",
    "euler",
    "from_betas",
    "from_published",
    "guide",
    "guided",
    "heun",
    "linear",
    "linear_betas",
    "min_snr",
    "per_example",
    "posterior",
    "probability_flow",
    "profile",
    "rectified_flow",
    "sample",
    "simple",
    "snr",
    "split",
    "target",
    "tightest",
    "times_of_log_snr",
    "trajectory",
    "uniform_log_snr_times",
    "uniform_times",
    "variance_preserving",
    "variational_bound",
]
