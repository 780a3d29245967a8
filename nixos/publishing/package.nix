# The commands publish-aws-image and deploy-aws. Their tests need moto and run in the lane `aws` of tests/run.
{ lib, python3Packages }:
python3Packages.buildPythonApplication {
  pname = "lnplaylive-aws";
  version = "0.1.0";
  pyproject = true;

  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions [
      ./pyproject.toml
      (lib.fileset.fileFilter (file: file.hasExt "py") ./lnplaylive_aws)
    ];
  };

  build-system = [ python3Packages.setuptools ];
  dependencies = [ python3Packages.boto3 ];

  doCheck = false;
  pythonImportsCheck = [
    "lnplaylive_aws.deploy_command"
    "lnplaylive_aws.publish_command"
  ];

  meta = {
    description = "Publishes the lnplay.live image on AWS, and runs a shop from it";
    license = lib.licenses.mit;
    mainProgram = "deploy-aws";
  };
}
