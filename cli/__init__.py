"""The operator's tool: payment-cli."""
