"""The bootstrap router: a node that knows many and hands them out."""
