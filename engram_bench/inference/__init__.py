"""Cases → completions and log-likelihoods, each asked once and stored."""
