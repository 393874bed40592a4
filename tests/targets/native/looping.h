// Code without CFI whose frame pointer leads to two words on the stack that lead to each other for ever. The return address is one
// that follows a call.
void loop_frames(void);
__asm__(".text\n"
        "loop_frames:\n"
        "  call 1f\n"
        "1:\n"
        "  pop %rax\n"
        "  sub $64, %rsp\n"
        "  lea 16(%rsp), %rcx\n"
        "  lea 32(%rsp), %rdx\n"
        "  mov %rdx, (%rcx)\n"
        "  mov %rax, 8(%rcx)\n"
        "  mov %rcx, (%rdx)\n"
        "  mov %rax, 8(%rdx)\n"
        "  mov %rcx, %rbp\n"
        "2:\n"
        "  mov $34, %eax\n"
        "  syscall\n"
        "  jmp 2b\n");
