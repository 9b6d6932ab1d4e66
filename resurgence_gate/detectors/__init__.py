"""Detectors: does a picture show the concept?"""
