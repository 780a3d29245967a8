import urllib.parse

start_all()
open_channel(customer, host)


def order() -> str:
    """Orders eight nodes for an hour and pays, as a buyer would: nobody tells the shop but the payment."""
    made = rpc(host, "lnplaylive-createorder", node_count=8, hours=1)
    customer.succeed(f"lightning-cli pay {made['bolt11_invoice']}")
    return made["invoice_id"]


def provisioned(order_id: str) -> list[str]:
    condition = ".deployment_details | type == \"object\" and .status == \"provisioned\""
    status = wait_for(
        host, "lnplaylive-invoicestatus", condition, timeout=600, payment_type="bolt11", invoice_id=order_id
    )
    strings = status["deployment_details"]["connection_strings"]
    assert len(strings) == 8, strings
    return strings


def environment_of(strings: list[str]) -> str:
    """The path of the host's gateway that leads to an environment, of its first connection string."""
    path = urllib.parse.unquote(strings[0].split("&path=", 1)[1].split("&", 1)[0])
    return path.rsplit("/", 1)[0]


with subtest("An environment is bought, and its nodes answer through the front door"):
    strings = provisioned(order())
    gateway = environment_of(strings)
    for node in range(8):
        assert upgraded(customer, f"https://host{gateway}/{node}"), node
    assert not upgraded(customer, f"https://host{gateway}/8")

with subtest("The plugin is killed while it provisions: the buyer gets what was paid for, once"):
    second = order()
    host.succeed("pkill --signal KILL lnplaylive-plug")
    host.wait_until_succeeds("lightning-cli getinfo", timeout=120)
    assert environment_of(provisioned(second)) != gateway

with subtest("lightningd is killed while it provisions: the same"):
    third = order()
    host.succeed("systemctl kill --signal=KILL clightning.service")
    host.wait_until_succeeds("lightning-cli getinfo", timeout=120)
    provisioned(third)
    orders = rpc(host, "lnplayops-orders", which="all")
    assert json.dumps(orders).count("\"provisioned\"") >= 3, orders
