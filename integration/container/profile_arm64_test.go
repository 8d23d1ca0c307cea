package container

func architectures() []string { return []string{"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"} }
