"""Publishes the lnplay.live image on AWS, and runs a shop from it.

Two commands, `publish-aws-image` and `deploy-aws`. Both look at what is there, decide by a plain function what is to
be done (`publishing.steps`, `deployment.plan`), and do that; so a dry run prints what a run would do, and a run that
was interrupted goes on where the last one stopped.
"""
