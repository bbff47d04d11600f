"""The only place that opens connections to hosts which workflows name, and what they may lead to."""
