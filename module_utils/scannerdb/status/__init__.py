"""What a glance at one database shows: verdict, row of a table, metrics. Pure: plain values in."""
