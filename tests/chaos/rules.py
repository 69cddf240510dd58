"""What our own books must say once all is at rest, in SQL. Every query is told whose books: `:shops`."""

from __future__ import annotations

from dataclasses import dataclass

PERIODS = "2 a period of a subscription is paid once, and told once"
CREDIT = "14 what customers have left over is what was booked"
BACKED = "14 nobody has more than was captured: what went back, what banks hold, and credit"
OWNERS = "3 no event is without its owner whose transaction is known"
PAYOUTS = "7 a commission leaves once, and payouts are what their lines say"

UNREST = {
    "callbacks not handled": """
        SELECT count(*) FROM webhook_events w JOIN provider_accounts a ON a.id = w.provider_account_id
         WHERE a.workspace_id = ANY(:shops) AND w.status IN ('received', 'dispatched')""",
    "notices not delivered": "SELECT count(*) FROM outbox WHERE workspace_id = ANY(:shops) AND status <> 'delivered'",
    "payments of unknown outcome": """
        SELECT count(*) FROM payments
         WHERE workspace_id = ANY(:shops) AND status IN ('created', 'unknown')""",
    "refunds under way": """
        SELECT count(*) FROM refunds
         WHERE workspace_id = ANY(:shops) AND status IN ('requested', 'pending', 'unknown')""",
    "surplus on its way back": """
        SELECT count(*) FROM surplus_captures
         WHERE workspace_id = ANY(:shops) AND status = 'refunding'""",
    "subscriptions that were not woken": """
        SELECT count(*) FROM subscriptions WHERE workspace_id = ANY(:shops) AND wake_wanted_at IS NOT NULL""",
    "failed charges that nobody dealt with": """
        SELECT count(*) FROM invoices i
         WHERE i.workspace_id = ANY(:shops) AND i.status = 'open' AND i.failed_attempt < i.attempts
           AND NOT EXISTS (SELECT FROM payments p WHERE p.invoice_id = i.id
             AND p.status IN ('created', 'pending', 'requires_action', 'unknown'))""",
    "set-ups that did not begin": """
        SELECT count(*) FROM method_setups
         WHERE workspace_id = ANY(:shops) AND status IN ('created', 'unknown')""",
    "payouts without lines": """
        SELECT count(*) FROM payouts WHERE workspace_id = ANY(:shops) AND status = 'requested'""",
    "payouts without a file": """
        SELECT count(*) FROM payouts p LEFT JOIN payout_files f ON f.payout_id = p.id
         WHERE p.workspace_id = ANY(:shops) AND p.status IN ('approved', 'closed') AND f.payout_id IS NULL""",
    "documents without a picture": """
        SELECT count(*) FROM receipts r LEFT JOIN receipt_pdfs d ON d.receipt_id = r.id
         WHERE r.workspace_id = ANY(:shops) AND d.receipt_id IS NULL""",
}
"""What is still to be done, by name."""

PIECES = """
    SELECT p.id, p.status, p.refunded, p.amount,
           (SELECT count(*) FROM receipts r WHERE r.payment_id = p.id AND r.refund_id IS NULL) AS receipts,
           (SELECT count(*) FROM receipts r JOIN refunds f ON f.id = r.refund_id WHERE r.payment_id = p.id) AS notes,
           (SELECT count(*) FROM refunds f
             WHERE f.payment_id = p.id AND f.status IN ('succeeded', 'returned', 'settled_outside')) AS refunds,
           (SELECT coalesce(sum(f.amount), 0) FROM refunds f
             WHERE f.payment_id = p.id AND f.status IN ('succeeded', 'returned', 'settled_outside')) AS sent_back,
           (SELECT count(*) FROM commissions c WHERE c.payment_id = p.id AND c.order_id = p.order_id) AS commissions,
           (SELECT count(DISTINCT l.movement_id) FROM ledger_entries l
             WHERE l.payment_id = p.id AND l.kind = 'capture') AS captures,
           (SELECT count(*) FROM audit_log a WHERE a.subject_id = p.id::text AND a.action = 'payment.paid') AS settled,
           (SELECT count(*) FROM outbox o WHERE o.payment_id = p.id AND o.type = 'payment.paid') AS told
      FROM payments p WHERE p.workspace_id = ANY(:shops)
"""
SERIES = """
    SELECT c.kind, c.fiscal_year, c.last_number, count(r.number) AS documents, min(r.number) AS first
      FROM receipt_counters c LEFT JOIN receipts r USING (workspace_id, kind, fiscal_year)
     WHERE c.workspace_id = ANY(:shops) GROUP BY c.workspace_id, c.kind, c.fiscal_year, c.last_number
"""
UNBALANCED = """
    SELECT movement_id, currency, sum(amount) AS rest FROM ledger_entries
     WHERE workspace_id = ANY(:shops) GROUP BY movement_id, currency HAVING sum(amount) <> 0
"""
OWED = """
    SELECT c.workspace_id, c.referrer_id,
           sum(c.amount - c.clawed_back)
           - coalesce((SELECT sum(o.amount) FROM payout_lines o WHERE o.workspace_id = c.workspace_id
               AND o.referrer_id = c.referrer_id AND o.status IN ('sent', 'paid')), 0) AS owed,
           (SELECT -coalesce(sum(l.amount), 0) FROM ledger_entries l WHERE l.workspace_id = c.workspace_id
             AND l.account = 'commission_payable:' || c.referrer_id) AS booked
      FROM commissions c WHERE c.workspace_id = ANY(:shops) GROUP BY c.workspace_id, c.referrer_id
"""


STUCK = """
    SELECT 'payment-' || id FROM payments WHERE workspace_id = ANY(:shops) AND status IN ('created', 'unknown')
    UNION ALL SELECT 'refund-' || id FROM refunds
     WHERE workspace_id = ANY(:shops) AND status IN ('requested', 'pending', 'unknown')
"""


UNHANDLED = """
    SELECT w.provider, w.type, w.kind, w.status, w.attempts, w.last_error, p.id AS payment, p.status AS stands,
           round(extract(epoch FROM now() - w.received_at)) AS age,
           round(extract(epoch FROM w.next_attempt_at - now())) AS again
      FROM webhook_events w JOIN provider_accounts a ON a.id = w.provider_account_id
      LEFT JOIN payments p ON p.id = w.payment_id
     WHERE a.workspace_id = ANY(:shops) AND w.status IN ('received', 'dispatched')
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """`looked_at` counts what the rule is about, `broken` gives a line of text for each breach."""

    promise: str
    looked_at: str
    broken: str


RULES = (
    Rule(
        PERIODS,
        "SELECT count(*) FROM invoices WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('invoice %s over %s is %s: %s payments kept, %s returned, %s of another amount, %s told', i.id,
                      i.total, i.status, n.kept, n.back, n.other, n.told)
          FROM invoices i, LATERAL (
            SELECT count(*) FILTER (WHERE p.status IN ('paid', 'partially_refunded')) AS kept,
                   count(*) FILTER (WHERE p.status = 'refunded') AS back,
                   count(*) FILTER (WHERE p.amount <> i.total) AS other,
                   (SELECT count(*) FROM outbox o WHERE o.payload -> 'data' ->> 'invoice_id' = i.id::text AND o.type IN
                     ('subscription.activated', 'subscription.renewed', 'subscription.recovered',
                      'subscription.change_paid')) AS told
              FROM payments p WHERE p.invoice_id = i.id) n
         WHERE i.workspace_id = ANY(:shops) AND NOT CASE
            WHEN n.other > 0 THEN false
            WHEN i.status <> 'paid' THEN n.kept + n.back + n.told = 0
            WHEN i.total = 0 THEN n.kept + n.back = 0 AND n.told = 1
            ELSE n.kept <= 1 AND n.kept + n.back >= 1 AND n.told BETWEEN n.kept AND 1 END""",
    ),
    Rule(
        PERIODS,
        "SELECT count(*) FROM subscriptions WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('subscription %s is %s in period %s: invoices of %s periods, %s of them open', s.id, s.status,
                      s.period, n.periods, n.open)
          FROM subscriptions s, LATERAL (
            SELECT count(*) FILTER (WHERE i.sequence = 0) AS periods, count(*) FILTER (WHERE i.status = 'open') AS open
              FROM invoices i WHERE i.subscription_id = s.id) n
         WHERE s.workspace_id = ANY(:shops)
           AND (n.periods <> s.period OR (n.open > 0) <> (s.status IN ('incomplete', 'past_due')))""",
    ),
    Rule(
        CREDIT,
        "SELECT count(*) FROM customer_credits WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('customer %s has %s left over, booked is %s', c.customer_id, c.balance, b.booked)
          FROM customer_credits c, LATERAL (
            SELECT -coalesce(sum(l.amount), 0) AS booked FROM ledger_entries l
             WHERE l.workspace_id = c.workspace_id AND l.account = 'customer_credit:' || c.customer_id
               AND l.currency = c.currency) b
         WHERE c.workspace_id = ANY(:shops) AND c.balance <> b.booked""",
    ),
    Rule(
        CREDIT,
        "SELECT count(*) FROM credit_entries WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('customer %s has %s left over, the entries say %s', c.customer_id, c.balance, e.unused)
          FROM customer_credits c, LATERAL (
            SELECT coalesce(sum(e.unused), 0) AS unused FROM credit_entries e
             WHERE e.workspace_id = c.workspace_id AND e.customer_id = c.customer_id AND e.currency = c.currency) e
         WHERE c.workspace_id = ANY(:shops) AND (c.balance <> e.unused OR c.balance < 0)""",
    ),
    Rule(
        BACKED,
        "SELECT count(*) FROM payments WHERE workspace_id = ANY(:shops) AND paid_at IS NOT NULL",
        """
        SELECT format('payment %s of %s: %s refunded, %s reserved, %s disputed, credit of it: %s unused, %s used',
                      p.id, p.amount, p.refunded, p.refund_reserved, p.dispute_held, n.unused, n.used)
          FROM payments p, LATERAL (
            SELECT coalesce(sum(e.unused), 0) AS unused, coalesce(sum(e.used), 0) AS used
              FROM credit_entries e WHERE e.payment_id = p.id) n
         WHERE p.workspace_id = ANY(:shops)
           AND NOT (n.unused >= 0 AND n.used >= 0
             AND p.refunded + p.refund_reserved + p.dispute_held + n.unused <= p.amount)""",
    ),
    Rule(
        OWNERS,
        """
        SELECT count(*) FROM webhook_events w JOIN provider_accounts a ON a.id = w.provider_account_id
         WHERE a.workspace_id = ANY(:shops)""",
        """
        SELECT format('event %s (%s) is %s, and attempt %s of payment %s has what it names', w.event_id, w.type,
                      w.status, t.number, t.payment_id)
          FROM webhook_events w
          JOIN attempts t ON t.provider_account_id = w.provider_account_id
           AND (t.session_id = ANY(w.named) OR t.transaction_id = ANY(w.named) OR t.other_ids && w.named)
          JOIN payments p ON p.id = t.payment_id
         WHERE p.workspace_id = ANY(:shops) AND w.payment_id IS NULL
           AND w.kind IN ('dispute', 'refund', 'captured')""",
    ),
    Rule(
        PAYOUTS,
        "SELECT count(*) FROM payout_lines WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('line %s over %s is %s: live items over %s', l.id, l.gross, l.status, n.live)
          FROM payout_lines l, LATERAL (
            SELECT coalesce(sum(i.amount) FILTER (WHERE i.status <> 'released'), 0) AS live,
                   bool_and(i.status = CASE l.status WHEN 'prepared' THEN 'reserved' ELSE l.status END)
                     FILTER (WHERE i.status <> 'released') AS agree
              FROM payout_items i WHERE i.line_id = l.id) n
         WHERE l.workspace_id = ANY(:shops) AND NOT CASE
            WHEN l.status IN ('prepared', 'sent', 'paid') THEN n.live = l.gross AND n.agree
            ELSE n.live = 0 END""",
    ),
    Rule(
        PAYOUTS,
        "SELECT count(*) FROM payouts WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('batch %s over %s is %s: lines over %s, %s sent, in transit are %s', p.id, p.total, p.status,
                      n.total, n.sent, t.booked)
          FROM payouts p, LATERAL (
            SELECT coalesce(sum(l.amount) FILTER (WHERE l.status <> 'dropped'), 0) AS total,
                   coalesce(sum(l.amount) FILTER (WHERE l.status = 'sent'), 0) AS sent
              FROM payout_lines l WHERE l.payout_id = p.id) n, LATERAL (
            SELECT -coalesce(sum(e.amount), 0) AS booked FROM ledger_entries e
             WHERE e.workspace_id = p.workspace_id AND e.account = 'payouts_in_transit:' || p.id) t
         WHERE p.workspace_id = ANY(:shops) AND NOT (n.sent = t.booked AND (n.sent > 0) = (p.status = 'approved')
           AND (n.total = p.total OR p.status = 'rejected'))""",
    ),
    Rule(
        PAYOUTS,
        "SELECT count(*) FROM commissions WHERE workspace_id = ANY(:shops)",
        """
        SELECT format('commission %s is %s, paid by %s lines', c.id, c.status, n.paid)
          FROM commissions c, LATERAL (
            SELECT count(*) AS paid FROM payout_items i WHERE i.commission_id = c.id AND i.status = 'paid') n
         WHERE c.workspace_id = ANY(:shops) AND n.paid <> (c.status = 'paid')::int""",
    ),
)
