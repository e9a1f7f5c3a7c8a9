"""Stacks: deploying CloudFormation and SAM templates of functions and what belongs to them."""
