"""What each option of the schedulers means, in a sentence or two; docs/options.md says more."""

OPTIONS = {
    "num_train_timesteps": "How many timesteps the model was trained with, at least 1.",
    "beta_start": "The first beta, between 0 and 1.",
    "beta_end": "The last beta, between 0 and 1.",
    "beta_schedule": 'How the betas go from the first to the last: "linear", "scaled_linear", "squaredcos_cap_v2", '
    '"sigmoid", "exp" or "laplace".',
    "trained_betas": "All betas of the model, instead of a schedule.",
    "use_karras_sigmas": "Noise levels along EDM's curve. You can choose one curve at most.",
    "use_exponential_sigmas": "Noise levels spaced evenly in log sigma.",
    "use_beta_sigmas": "Noise levels at the quantiles of a Beta distribution.",
    "prediction_type": 'What the model predicts: "epsilon", "sample", "v_prediction" or "flow_prediction". The last '
    "one makes the model a flow.",
    "timestep_spacing": 'How the starts of the steps are spaced: "linspace", "leading", "trailing", "simple" or '
    '"sgm_uniform".',
    "steps_offset": 'Added to every timestep of "leading" spacing.',
    "use_polyexponential_sigmas": "Noise levels spaced along a power of log sigma.",
    "use_lu_lambdas": "Noise levels spaced evenly in the log of the signal-to-noise ratio.",
    "ays_sigmas": 'Noise levels of Align Your Steps: "sd15", "sdxl" or "svd".',
    "sigma_min": "Last level of the curve. For an EDM model: the lowest level of its schedule.",
    "sigma_max": "First level of the curve. For an EDM model: the highest level of its schedule.",
    "rho": "Exponent of the curve. None for 7 with the Karras curve, and 1 with the polyexponential curve.",
    "final_sigmas_type": 'Where a run ends: "zero" for level 0, or "sigma_min" for the smallest level that it visits.',
    "discard_next_to_last_sigma": "Leave out the level before the last. This is better with few steps.",
    "rescale_betas_zero_snr": "Stretch the betas so that the last timestep is pure noise.",
    "timestep_type": '"discrete". Or "continuous", for a v-prediction model that is conditioned on log(sigma)/4.',
    "use_flow_sigmas": 'The model is a flow. A model that predicts "flow_prediction" is one in any case.',
    "flow_shift": "Shift of a flow's noise levels towards noise.",
    "use_dynamic_shifting": "The shift of a flow follows from mu, which pipelines pass to set_timesteps.",
    "time_shift_type": 'How the shift follows from mu: "exponential" for e to the mu, or "linear" for mu itself.',
    "shift_terminal": "Stretch the shifted noise levels of a flow so that the last one is this.",
    "base_shift": "Pipelines compute mu from this and the next three options.",
    "max_shift": "See base_shift.",
    "base_image_seq_len": "See base_shift.",
    "max_image_seq_len": "See base_shift.",
    "sigma_data": "Makes the model one of EDM's, for data of this standard deviation.",
    "eta": "Share of each step's noise that is new, from 0 to 1: 0 is deterministic, 1 is ancestral sampling. It is an "
    "option of the scheduler, not of `pipe(...)`. It may change on the way: a list is spread over the steps, and a "
    "mapping is a window of steps (see `kdpm2.by_step`).",
    "s_noise": "Scale of all noise that steps add, at least 0. It may change on the way, as eta.",
    "noise": 'Kind of noise: "gaussian", "brownian" or "philox". With "brownian" the pictures of one seed converge '
    'as you add steps. "philox" is the same on every device.',
    "s_churn": "How much noise a run of N steps adds before its steps, at least 0. Each step first raises its noise "
    "level by the factor 1 + s_churn/N, at most √2.",
    "s_tmin": "Smallest noise level at which s_churn adds noise.",
    "s_tmax": "Largest noise level at which s_churn adds noise. None for no limit.",
    "snr_shift_scale": "Divide the signal-to-noise ratio of the betas by this, as CogVideoX does.",
    "sample_space": 'How the loop holds samples. "variance_exploding": as x0 + sigma * noise, like diffusers. '
    '"variance_preserving": the same, divided by the root of 1 + sigma², for a loop that never scales. None: the '
    "first, unless a run begins with `step`, without `scale_model_input`, on noise of standard deviation 1.",
    "clip_sample": "Keep each estimate of the clean sample within clip_sample_range.",
    "clip_sample_range": "Largest absolute value of a clipped estimate.",
    "thresholding": "Limit each estimate of the clean sample to a quantile of its absolute values, as Imagen does.",
    "dynamic_thresholding_ratio": "Which quantile is the limit. The limit is at least 1.",
    "sample_max_value": "The limit of thresholding is at most this.",
    "sigma_curve": 'Any curve by its name: "karras", "exponential", "beta", "polyexponential", "lu", "ays_sd15", '
    '"ays_sdxl" or "ays_svd".',
    "tuned_sigmas": "Noise levels that `kdpm2.tune` found, with the end; for other numbers of steps they are "
    "interpolated in log sigma.",
    "restarts": "Intervals in which a run goes back up by noise alone, and down again: mappings of sigma_min, "
    "sigma_max, steps (3) and times (1). A run then has more steps than num_inference_steps.",
    "keep_estimate": "Keep the estimate of the step before in the place of each step's first network call: N+1 calls "
    "instead of 2N-1.",
    "invert": "Go from a picture up to its noise: a run goes through the same levels, from the smallest to the "
    "largest.",
}
