{ self, lib, system }: { }
