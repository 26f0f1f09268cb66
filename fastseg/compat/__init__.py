"""Classes with the shapes of other libraries, so that code written for them runs on fastseg."""
