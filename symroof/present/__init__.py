"""What people and scripts read: records for JSON, pictures."""
