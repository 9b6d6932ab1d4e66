"""What is tested, how, and what is accepted: the policy and its file."""

from resurgence_gate.policy.files import shipped_policies
from resurgence_gate.policy.json_schema import policy_schema
from resurgence_gate.policy.load import load_policy, parse_policy
from resurgence_gate.policy.schema import Policy

__all__ = ["Policy", "load_policy", "parse_policy", "policy_schema", "shipped_policies"]
