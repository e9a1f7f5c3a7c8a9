"""Function URLs: the second listener's route, and payload format 2.0 both ways.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from pilotlight.dataplane.frontend.urls.route import URL_HOSTS, UrlRoute

__all__ = ["URL_HOSTS", "UrlRoute"]
