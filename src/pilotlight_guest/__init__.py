"""What runs inside sandboxes. Standard library only; never imports ``pilotlight``; Python 3.9 up."""
