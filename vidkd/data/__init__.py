"""Labelled clips: manifests, layouts, windows, flow, paired transforms, cache, loaders."""
