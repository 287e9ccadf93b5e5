"""How often a canary's rollout ends wrongly: ours and three well-known rules on the same simulated requests."""
