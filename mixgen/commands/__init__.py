"""The commands of `mixgen`; libraries are imported where they are needed, so that help is quick."""
