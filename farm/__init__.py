"""benchfarm's coordinator: queues jobs, leases boards, measures, judges, shows."""
