# The flake's outputs, called on a tree of nixpkgs: the same values as Nix makes of them.
{ nixpkgs }:
let
  load =
    path: inputs:
    let
      self = (import (path + "/flake.nix")).outputs (inputs // { inherit self; }) // {
        outPath = path;
        _type = "flake";
        inherit inputs;
        lastModified = 0;
        lastModifiedDate = "19700101000000";
        rev = "0000000000000000000000000000000000000000";
        shortRev = "0000000";
        sourceInfo.outPath = path;
      };
    in
    self;
  nixpkgsFlake = load (/. + nixpkgs) { };
in
{
  self = load ../.. { nixpkgs = nixpkgsFlake; };
  inherit (nixpkgsFlake) lib;
}
