"""What each option of the schedulers means, in a sentence or two; docs/options.md says more."""

OPTIONS = {
    "num_train_timesteps": "How many timesteps the model was trained with, at least 1.",
    "beta_start": "Its first beta, between 0 and 1.",
    "beta_end": "Its last beta, between 0 and 1.",
    "beta_schedule": 'How they are joined: "linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "exp" or '
    '"laplace".',
    "trained_betas": "All of its betas, instead of a schedule.",
    "use_karras_sigmas": "Noise levels along EDM's curve. Of this and the other curves, one at most can be chosen.",
    "use_exponential_sigmas": "Noise levels evenly in log sigma.",
    "use_beta_sigmas": "Noise levels at the quantiles of a Beta distribution.",
    "prediction_type": 'What the model predicts: "epsilon", "sample", "v_prediction", or "flow_prediction", which '
    "makes it a flow.",
    "timestep_spacing": '"linspace", "leading", "trailing", "simple" or "sgm_uniform".',
    "steps_offset": "Added to every leading timestep.",
    "use_polyexponential_sigmas": "Noise levels along a power of log sigma.",
    "use_lu_lambdas": "Noise levels evenly in the log of the signal-to-noise ratio.",
    "ays_sigmas": 'Noise levels of Align Your Steps: "sd15", "sdxl" or "svd".',
    "sigma_min": "Last level of the curve; for an EDM model, of its range.",
    "sigma_max": "First level of the curve; for an EDM model, of its range.",
    "rho": "Exponent of the Karras curve, 7 if None, and of the polyexponential one, 1 if None.",
    "final_sigmas_type": 'Where a run ends: at "zero", or at "sigma_min", the smallest level that it visits.',
    "discard_next_to_last_sigma": "Leave out the level before the last: better with few steps.",
    "rescale_betas_zero_snr": "Stretch the betas to end in pure noise.",
    "timestep_type": '"discrete", or "continuous" for a v-prediction model that is conditioned on log(sigma)/4.',
    "use_flow_sigmas": "The model is a flow, as one that predicts flow_prediction always is.",
    "flow_shift": "Shift of a flow's noise levels towards noise.",
    "use_dynamic_shifting": "A flow's shift follows from mu, which pipelines pass to set_timesteps.",
    "time_shift_type": 'How: "exponential", the shift is e to the mu, or "linear", it is mu.',
    "shift_terminal": "Last noise level of a flow, to which the others are stretched.",
    "base_shift": "For pipelines, which compute mu from it.",
    "max_shift": "For pipelines, which compute mu from it.",
    "base_image_seq_len": "For pipelines, which compute mu from it.",
    "max_image_seq_len": "For pipelines, which compute mu from it.",
    "sigma_data": "The model is one of EDM's, for data of this standard deviation.",
    "eta": "Share of each step's noise that is new, from 0, deterministic, to 1, ancestral sampling. An option of the "
    "scheduler, and not of `pipe(...)`.",
    "s_noise": "Scale of all noise that steps add, at least 0.",
    "noise": '"gaussian"; "brownian", from a Brownian path, with which the pictures of one seed converge as steps '
    'grow; or "philox", the same on every device.',
    "s_churn": "How much noise a run of N steps adds to go up before it goes down, at least 0: each step goes up by at "
    "most the factor √2.",
    "s_tmin": "Smallest noise level at which a step is churned.",
    "s_tmax": "Largest such level; no limit if None.",
    "snr_shift_scale": "The signal-to-noise ratio of the betas is divided by this, as CogVideoX does.",
    "sample_space": '"variance_exploding", x0 + sigma * noise, as diffusers holds samples, or "variance_preserving", '
    "that divided by the root of 1 + sigma², for a loop that never scales. None: the first, unless a run begins with a "
    "step, without `scale_model_input`, from noise of standard deviation 1.",
    "clip_sample": "Keep each estimate of the clean sample within clip_sample_range.",
    "clip_sample_range": "Largest absolute value of such an estimate.",
    "thresholding": "Limit each estimate of the clean sample as Imagen does.",
    "dynamic_thresholding_ratio": "The quantile of its absolute values that is the limit, at least 1.",
    "sample_max_value": "The limit is at most this.",
    "sigma_curve": 'Any curve by its name: "karras", "exponential", "beta", "polyexponential", "lu", "ays_sd15", '
    '"ays_sdxl" or "ays_svd".',
    "tuned_sigmas": "Noise levels that `kdpm2.tune` found, with the end; for other numbers of steps they are "
    "interpolated in log sigma.",
}
