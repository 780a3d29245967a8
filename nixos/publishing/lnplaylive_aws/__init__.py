"""Publishes the lnplay.live image on AWS, and deploys a shop from it.

There are two commands, `publish-aws-image` and `deploy-aws`. Both look up what exists, plan the missing steps with a
plain function (`publishing.steps`, `deployment.plan`), and run them. A dry run therefore prints exactly the steps of a
run, and the next run continues an interrupted one.
"""
