"""Theory against simulation: comparison, verdict, throughput."""
