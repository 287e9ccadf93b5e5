"""One A/B test: started with a plan, counted as answers come, judged, ended.

Here: what arms a person means, the plan from what the control did lately, the controller's look at a test. Not here:
what is certain (`domain.ab_tests`), who gets which engines and traffic (`services.fleet`).
"""
