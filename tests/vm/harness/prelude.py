import json
import shlex
from typing import Any

Node = Any  # a machine of the test


def rpc(node: Node, method: str, **parameters: Any) -> Any:
    """Calls a method of a node's Core Lightning."""
    arguments = [f"{name}={value}" for name, value in parameters.items()]
    return json.loads(node.succeed("lightning-cli --keywords " + shlex.join([method, *arguments])))


def wait_for(node: Node, method: str, condition: str, timeout: int = 60, **parameters: Any) -> Any:
    """Waits until a jq condition holds for what a method answers, and returns the answer."""
    arguments = [f"{name}={value}" for name, value in parameters.items()]
    call = "lightning-cli --keywords " + shlex.join([method, *arguments])
    node.wait_until_succeeds(f"{call} | jq --exit-status {shlex.quote(condition)}", timeout=timeout)
    return rpc(node, method, **parameters)


def mine(customer: Node, blocks: int, address: str) -> None:
    customer.succeed(f"bitcoin generatetoaddress {blocks} {address}")


def open_channel(customer: Node, host: Node) -> None:
    """Gives the customer coins, and a channel to the host through which to pay."""
    customer.wait_for_unit("clightning.service")
    host.wait_for_unit("clightning.service")
    address = rpc(customer, "newaddr", addresstype="bech32")["bech32"]
    mine(customer, 101, address)
    wait_for(customer, "listfunds", "any(.outputs[]; .status == \"confirmed\")")
    shop = rpc(host, "getinfo")["id"]
    customer.succeed(f"lightning-cli connect {shop} host 9735")
    # The shop's chain comes from the customer: it must have caught up before it agrees to a channel.
    height = rpc(customer, "getinfo")["blockheight"]
    wait_for(host, "getinfo", f".blockheight >= {height}")
    rpc(customer, "fundchannel", id=shop, amount=10_000_000, feerate="1000perkb")
    mine(customer, 6, address)
    for node in [customer, host]:
        wait_for(node, "listpeerchannels", "any(.channels[]; .state == \"CHANNELD_NORMAL\")", timeout=120)


def upgraded(node: Node, url: str) -> bool:
    """Whether a WebSocket is opened there."""
    status = node.succeed(
        "curl --silent --show-error --insecure --http1.1 --max-time 5 --output /dev/null --write-out '%{http_code}'"
        " --header 'Connection: Upgrade' --header 'Upgrade: websocket' --header 'Sec-WebSocket-Version: 13'"
        f" --header 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' {shlex.quote(url)} || true"
    )
    return status == "101"
