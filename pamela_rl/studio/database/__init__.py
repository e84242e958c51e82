"""What the studio stores: tables, and how a database is opened and brought up to date."""
