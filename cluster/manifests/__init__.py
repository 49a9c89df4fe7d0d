"""Documents for Kubernetes: KubeRay jobs and services, rendered from bundle, job and profile."""
