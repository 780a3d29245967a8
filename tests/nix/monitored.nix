# Settings of a host that is watched, with all ways to send alerts.
{
  monitoring = {
    enable = true;
    email = {
      to = "me@shop.example";
      from = "alerts@shop.example";
      smarthost = "smtp.shop.example:587";
      username = "alerts";
      passwordFile = "/run/secrets/smtp-password";
    };
    webhookUrlFile = "/run/secrets/alert-webhook";
  };
}
