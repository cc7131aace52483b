"""What an operator needs: health, metrics, logs, service management."""
