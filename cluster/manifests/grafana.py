"""A Grafana dashboard of a run's figures, as JSON to import; its queries are of `pipelines.run.metrics`."""

from typing import Any

PANELS = [
    ("Samples a second", "sum(rate(ray_thermapair_samples_total{run=~\"$run\"}[5m]))", "samples", "{{run}}"),
    ("Rows written", "sum(ray_thermapair_rows_total{run=~\"$run\"})", "rows", "{{run}}"),
    ("Rejects a minute, by reason", "sum by (reason) (rate(ray_thermapair_rejects_total{run=~\"$run\"}[5m])) * 60", "short",
     "{{reason}}"),
    ("Workers busy, by stage", "sum by (stage) (rate(ray_thermapair_stage_seconds_total{run=~\"$run\"}[5m]))", "short",
     "{{stage}}"),
    ("Seconds of a batch, 95 of 100 below", "histogram_quantile(0.95, sum by (le, stage) "
     "(rate(ray_thermapair_batch_seconds_bucket[5m])))", "s", "{{stage}}"),
    ("Bytes written a second", "sum(rate(ray_thermapair_bytes_total{run=~\"$run\"}[5m]))", "Bps", "{{run}}"),
    ("Memory of GPUs", "sum by (GpuIndex, instance) (ray_node_gram_used)", "decmbytes", "{{instance}} {{GpuIndex}}"),
    ("Object store", "sum by (Location) (ray_object_store_memory)", "bytes", "{{Location}}"),
]  # fmt: skip
"""Title, query, unit and legend; the last two are Ray's own figures."""
WIDE, HIGH, ACROSS = 12, 8, 2


def dashboard(name: str) -> dict[str, Any]:
    """Return the dashboard called `name`. It asks which Prometheus to read (`datasource`) and which runs to show (`run`)."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "gridPos": {"x": number % ACROSS * WIDE, "y": number // ACROSS * HIGH, "w": WIDE, "h": HIGH},
            "targets": [{"refId": "A", "datasource": source, "expr": query, "legendFormat": legend}],
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        }
        for number, (title, query, unit, legend) in enumerate(PANELS)
    ]
    runs = "label_values(ray_thermapair_rows_total, run)"
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {"name": "run", "type": "query", "datasource": source, "query": runs, "includeAll": True, "multi": True, "refresh": 2,
         "allValue": ".*", "current": {"text": "All", "value": "$__all"}},
    ]  # fmt: skip
    return {
        "uid": name[:40], "title": name, "tags": ["thermapair"], "schemaVersion": 39, "editable": True, "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "templating": {"list": variables}, "panels": panels,
    }  # fmt: skip
